//! Files of other kinds that are often found where a safetensors file should be, told apart to say what helps.

use std::path::Path;

const PICKLE: &str = "it is a pickle, which is never loaded because loading one runs the code that it carries; \
                      convert it to safetensors first (load it in torch with weights_only=True, then \
                      safetensors.torch.save_file)";
const GGUF: &str = "it is a GGUF file; name the safetensors files that it was made from";
const LFS: &str = "it is a Git LFS pointer, not the file itself; fetch the file with git lfs pull";

/// What the file is, from its name and its first 16 bytes. Asked only of files that are no safetensors files: the
/// length of a good header may well begin with any of these bytes.
pub(super) fn recognise(path: &Path, start: &[u8]) -> Option<&'static str> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if start.starts_with(b"GGUF") {
        Some(GGUF)
    } else if start.starts_with(b"version https://") {
        Some(LFS)
    } else if start.starts_with(b"\x80")
        || start.starts_with(b"PK")
        || matches!(extension, "bin" | "pt" | "pth" | "ckpt" | "pkl" | "pickle")
    {
        Some(PICKLE)
    } else {
        None
    }
}
