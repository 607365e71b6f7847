//! The merge methods: one file each, and the table that lists them.

pub mod breadcrumbs;
pub mod cat;
pub mod columns;
pub mod copy;
pub mod dare;
pub mod della;
pub mod in_order;
pub mod knots;
pub mod layer_swap;
pub mod linear;
pub mod magnitude_prune;
pub mod measured;
pub mod model_stock;
pub mod nuslerp;
pub mod operation;
pub mod options;
pub mod passthrough;
pub mod slerp;
pub mod steps;
pub mod table;
pub mod task_arithmetic;
pub mod task_vector;
pub mod threshold;
pub mod ties;
pub mod weighted;

use table::Method;

/// Every method, in the order in which `carrick methods` prints them.
pub const METHODS: &[Method] = &[
    linear::METHOD,
    task_arithmetic::METHOD,
    ties::METHOD,
    dare::LINEAR,
    dare::TIES,
    magnitude_prune::METHOD,
    breadcrumbs::LINEAR,
    breadcrumbs::TIES,
    della::LINEAR,
    della::TIES,
    slerp::METHOD,
    nuslerp::METHOD,
    model_stock::METHOD,
    passthrough::METHOD,
    layer_swap::METHOD,
    cat::METHOD,
    knots::LINEAR,
    knots::TIES,
    knots::DARE_LINEAR,
    knots::DARE_TIES,
    knots::MAGNITUDE_PRUNE,
];

/// The row of the table with this name.
pub fn find(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}
