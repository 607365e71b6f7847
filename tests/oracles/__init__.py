"""Float64 NumPy oracles, one file per method, written from the papers and formulas, not from the Rust code.

An oracle takes its decisions (what is trimmed, which sign wins, what a random mask keeps) in the working
precision, because there the rules name float32 operations, and computes its values in float64. It returns
an `Estimate`: the value and a bound on the error that float32 arithmetic may make on the way, derived next
to the formula.
"""
