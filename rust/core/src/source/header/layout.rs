//! Whether the tensors of a header are where they can be: each of its size, none twice, and the data section covered
//! from its first byte to its last.

use super::{TensorInfo, clipped};

/// The most characters of a name that a message quotes.
const NAME: usize = 150;

/// Brings the tensors into the order of their bytes and checks them against a data section of `data_bytes`.
pub(super) fn check(tensors: &mut [TensorInfo], data_bytes: u64) -> Result<(), String> {
    require_distinct_names(tensors)?;
    for tensor in &*tensors {
        require_own_size(tensor)?;
        if tensor.end > data_bytes {
            return Err(format!(
                "tensor {} ends at byte {} of the data section, out of range, as the section has {data_bytes} bytes: \
                 the file is truncated or its header wrong",
                quoted(tensor),
                tensor.end
            ));
        }
    }
    tensors.sort_unstable_by(|a, b| (a.begin, a.end, &a.name).cmp(&(b.begin, b.end, &b.name)));
    require_cover(tensors, data_bytes)
}

fn require_distinct_names(tensors: &[TensorInfo]) -> Result<(), String> {
    // Sorted, not hashed: there may be millions, and this takes 16 bytes each.
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            Err(format!("duplicate tensor {:?}: it cannot be told which of the two is meant", clipped(pair[0], NAME)))
        }
        None => Ok(()),
    }
}

fn require_own_size(tensor: &TensorInfo) -> Result<(), String> {
    let TensorInfo { dtype, shape, begin, end, .. } = tensor;
    let Some(stored) = end.checked_sub(*begin) else {
        return Err(format!("tensor {}: data_offsets [{begin}, {end}] end before they begin", quoted(tensor)));
    };
    // Zeros are left out of the product at first, so that it overflows in any order of multiplication or in none.
    let product = shape.iter().filter(|&&size| size > 0).try_fold(1u64, |product, &size| product.checked_mul(size));
    let overflow = || format!("tensor {}: shape {shape:?} overflows 64 bits in {dtype}", quoted(tensor));
    let product = product.filter(|product| product.checked_mul(dtype.bits()).is_some()).ok_or_else(overflow)?;
    let elements = if shape.contains(&0) { 0 } else { product };
    match dtype.nbytes(elements) {
        Some(needed) if needed == stored => Ok(()),
        Some(needed) => Err(format!(
            "tensor {}: shape {shape:?} in {dtype} takes {needed} bytes, but its data_offsets [{begin}, {end}] hold \
             {stored}",
            quoted(tensor)
        )),
        None => Err(format!("tensor {}: {elements} elements of {dtype} end inside a byte", quoted(tensor))),
    }
}

fn require_cover(tensors: &[TensorInfo], data_bytes: u64) -> Result<(), String> {
    let mut covered = 0;
    let mut before: Option<&TensorInfo> = None;
    for tensor in tensors {
        if let Some(before) = before.filter(|_| tensor.begin < covered) {
            return Err(format!(
                "tensors {} and {} overlap: the second begins at byte {} of the data section, the first ends at byte \
                 {covered}",
                quoted(before),
                quoted(tensor),
                tensor.begin
            ));
        }
        if tensor.begin > covered {
            return Err(format!(
                "hole before tensor {}: bytes {covered} to {} of the data section belong to no tensor",
                quoted(tensor),
                tensor.begin
            ));
        }
        covered = tensor.end;
        before = Some(tensor);
    }
    if covered < data_bytes {
        return Err(format!("the last {} bytes of the file belong to no tensor", data_bytes - covered));
    }
    Ok(())
}

fn quoted(tensor: &TensorInfo) -> String {
    format!("{:?}", clipped(&tensor.name, NAME))
}
