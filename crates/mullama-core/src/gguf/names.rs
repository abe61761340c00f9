//! Names of ggml's types and of llama.cpp's file types.

/// The name of a tensor's type (`ggml_type`).
pub(super) fn tensor_type_name(type_id: u32) -> Option<&'static str> {
    const FIRST: [&str; 31] = [
        "F32", "F16", "Q4_0", "Q4_1", "", "", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
        "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32",
        "I64", "F64", "IQ1_M", "BF16",
    ];
    match type_id {
        34 => Some("TQ1_0"),
        35 => Some("TQ2_0"),
        39 => Some("MXFP4"),
        40 => Some("NVFP4"),
        41 => Some("Q1_0"),
        42 => Some("Q2_0"),
        _ => FIRST.get(type_id as usize).copied().filter(|name| !name.is_empty()),
    }
}

/// The name of a value of `general.file_type` (`llama_ftype`), such as `Q4_K_M` for 15.
pub fn file_type_name(file_type: i128) -> Option<&'static str> {
    const NAMES: [&str; 42] = [
        "F32",
        "F16",
        "Q4_0",
        "Q4_1",
        "",
        "",
        "",
        "Q8_0",
        "Q5_0",
        "Q5_1",
        "Q2_K",
        "Q3_K_S",
        "Q3_K_M",
        "Q3_K_L",
        "Q4_K_S",
        "Q4_K_M",
        "Q5_K_S",
        "Q5_K_M",
        "Q6_K",
        "IQ2_XXS",
        "IQ2_XS",
        "Q2_K_S",
        "IQ3_XS",
        "IQ3_XXS",
        "IQ1_S",
        "IQ4_NL",
        "IQ3_S",
        "IQ3_M",
        "IQ2_S",
        "IQ2_M",
        "IQ4_XS",
        "IQ1_M",
        "BF16",
        "",
        "",
        "",
        "TQ1_0",
        "TQ2_0",
        "MXFP4_MOE",
        "NVFP4",
        "Q1_0",
        "Q2_0",
    ];
    let at = usize::try_from(file_type).ok()?;
    NAMES.get(at).copied().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{file_type_name, tensor_type_name};

    #[test]
    fn names_are_those_of_the_enumerations() {
        let types = [(0, "F32"), (12, "Q4_K"), (23, "IQ4_XS"), (29, "IQ1_M"), (30, "BF16"), (39, "MXFP4")];
        for (type_id, name) in types {
            assert_eq!(tensor_type_name(type_id), Some(name));
        }
        assert_eq!([4, 31, 99].map(tensor_type_name), [None; 3]);
        let files =
            [(1, "F16"), (7, "Q8_0"), (15, "Q4_K_M"), (18, "Q6_K"), (30, "IQ4_XS"), (32, "BF16"), (36, "TQ1_0")];
        for (file_type, name) in files {
            assert_eq!(file_type_name(file_type), Some(name));
        }
        assert_eq!([4, 33, -1, i128::MAX].map(file_type_name), [None; 4]);
    }
}
