//! Reading a method's options from a plan, where every one of them is spelled out.

use serde_json::{Map, Value};

use super::table::{Kind, Method, Scope};
use crate::error::{Error, Result};

/// The options of one job or the parameters of one of its inputs.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    method: &'a Method,
    values: &'a Map<String, Value>,
}

impl<'a> Options<'a> {
    /// Checks the values against the method's row: nothing missing, nothing unknown, everything in range.
    pub fn new(method: &'a Method, values: &'a Map<String, Value>, per_model: bool) -> Result<Self> {
        let wanted = || method.parameters.iter().filter(|parameter| (parameter.scope == Scope::Model) == per_model);
        if let Some(name) = values.keys().find(|name| wanted().all(|parameter| parameter.name != *name)) {
            return Err(Error::plan(format!("{} has no option {name:?} here", method.name)));
        }
        for parameter in wanted() {
            let (name, value) = (parameter.name, values.get(parameter.name));
            let fits = match (parameter.kind, value) {
                (_, None) => return Err(Error::plan(format!("{} lacks its option {name:?}", method.name))),
                (Kind::Bool { .. }, Some(value)) => value.is_boolean(),
                (Kind::Choice { choices, .. }, Some(value)) => {
                    value.as_str().is_some_and(|value| choices.contains(&value))
                }
                (Kind::Float { min, max, .. }, Some(value)) => value.as_f64().is_some_and(|value| {
                    min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max) && value.is_finite()
                }),
            };
            if !fits {
                let value = value.map(ToString::to_string).unwrap_or_default();
                return Err(Error::plan(format!("{}: {name} cannot be {value}", method.name)));
            }
        }
        Ok(Self { method, values })
    }

    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub fn number(&self, name: &str) -> Result<f64> {
        self.values.get(name).and_then(Value::as_f64).ok_or_else(|| self.missing(name))
    }

    pub fn switch(&self, name: &str) -> Result<bool> {
        self.values.get(name).and_then(Value::as_bool).ok_or_else(|| self.missing(name))
    }

    pub fn choice(&self, name: &str) -> Result<&'a str> {
        self.values.get(name).and_then(Value::as_str).ok_or_else(|| self.missing(name))
    }

    /// The choice, or `default` for methods that have no such option.
    pub fn choice_or(&self, name: &str, default: &'a str) -> &'a str {
        self.values.get(name).and_then(Value::as_str).unwrap_or(default)
    }

    fn missing(&self, name: &str) -> Error {
        Error::plan(format!("{} lacks its option {name:?}", self.method.name))
    }
}
