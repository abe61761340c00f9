//! What the name of a GGUF file says: the quantization, and which model it is.

/// What the name of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    /// The quantization in upper case, such as `Q4_K_M` or `UD-Q4_K_XL`.
    pub(crate) quant: Option<String>,
    /// What is left of the name: the same for all quantizations of a model.
    pub(crate) model: String,
    /// The name of the file without its folders, part number and `.gguf`.
    pub(crate) stem: String,
}

/// How far a quantization is from the default one; the smallest is chosen.
type Distance = (u32, usize, bool);

impl Label {
    /// Reads the path of a file.
    pub(crate) fn of(path: &str) -> Self {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let name = split(name).map_or(name, |(group, _)| group);
        let stem = without_extension(name).to_owned();
        let (quant, rest) = match find(&stem) {
            Some((at, quant)) => {
                let (before, after) = (&stem[..at], &stem[at + quant.len()..]);
                (Some(quant), format!("{before}-{after}"))
            }
            None => (folders.rsplit('/').find_map(|folder| find(folder).map(|(_, quant)| quant)), stem.clone()),
        };
        Self { quant: quant.map(normalize), model: model_of(&rest), stem }
    }

    /// Whether the text is the name of a quantization and nothing else.
    pub(super) fn is_only_quant(&self) -> bool {
        self.quant.is_some() && self.model.is_empty()
    }

    /// The quantization without `UD-`.
    pub(super) fn plain_quant(&self) -> Option<&str> {
        self.quant.as_deref().map(|quant| quant.strip_prefix("UD-").unwrap_or(quant))
    }

    /// How far the quantization is from `Q4_K_M`: by bits per weight, more bits before fewer, then by kind.
    pub(super) fn distance(&self) -> Distance {
        /// The kinds of one number of bits, the most usual first.
        const KINDS: [&str; 13] =
            ["K_M", "K_XL", "K_L", "K", "K_S", "K_XXL", "_M", "_NL", "_XS", "_S", "_XXS", "_0", "_1"];
        let Some(quant) = self.plain_quant() else {
            return (u32::MAX, 0, false);
        };
        let bits = bits_of(quant);
        let distance = 2 * bits.abs_diff(4) - u32::from(bits > 4);
        let is_other = quant.starts_with('I');
        let kind = KINDS.iter().position(|kind| quant.ends_with(kind)).unwrap_or(KINDS.len());
        (distance, kind + if is_other { 20 } else { 0 }, quant.len() != self.quant.as_ref().map_or(0, String::len))
    }
}

fn bits_of(quant: &str) -> u32 {
    match quant {
        "F32" => 32,
        "F16" | "BF16" => 16,
        _ => quant.chars().find_map(|c| c.to_digit(10)).unwrap_or(64),
    }
}

fn without_extension(name: &str) -> &str {
    match name.len().checked_sub(5) {
        Some(at) if name.is_char_boundary(at) && name[at..].eq_ignore_ascii_case(".gguf") => &name[..at],
        _ => name,
    }
}

/// For `model-00001-of-00003.gguf`: the path before the number, and the number of parts.
pub(crate) fn split(path: &str) -> Option<(&str, usize)> {
    let (rest, parts) = without_extension(path).rsplit_once("-of-")?;
    let (group, part) = rest.rsplit_once('-')?;
    let number = |text: &str| {
        let is_number = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<usize>().ok().filter(|number| is_number && *number > 0)
    };
    let (part, parts) = (number(part)?, number(parts)?);
    (part <= parts && without_extension(path).len() < path.len()).then_some((group, parts))
}

/// Whether a path is that of a model, and not of what goes with one.
pub(super) fn is_model(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let lower = without_extension(name).to_ascii_lowercase();
    if without_extension(name).len() == name.len() || name.starts_with('.') {
        return false;
    }
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).collect::<Vec<_>>();
    let is_projector = words.iter().any(|word| ["mmproj", "projector"].contains(word)) || lower.contains("mmproj");
    // A file `x-imatrix.gguf` has the statistics; `x-imatrix-Q4_K_M.gguf` is a model that was made with them.
    let is_statistics = lower.contains("imatrix") && find(&lower).is_none();
    let is_part_of_another =
        lower.starts_with("ggml-vocab") || words.iter().any(|word| ["lora", "adapter"].contains(word));
    !is_projector && !is_statistics && !is_part_of_another
}

/// The last name of a quantization in a text, and where it begins.
fn find(text: &str) -> Option<(usize, &str)> {
    let bytes = text.as_bytes();
    let is_begin = |at: &usize| *at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
    (0..bytes.len()).rev().filter(is_begin).find_map(|at| {
        let len = quant_len(&bytes[at..])?;
        let is_dynamic = at >= 3 && bytes[at - 3..at].eq_ignore_ascii_case(b"UD-") && (at == 3 || is_begin(&(at - 3)));
        let begin = if is_dynamic { at - 3 } else { at };
        Some((begin, &text[begin..at + len]))
    })
}

/// The length of the quantization's name that the bytes begin with.
fn quant_len(bytes: &[u8]) -> Option<usize> {
    const WHOLE: [&str; 11] =
        ["MXFP4_MOE", "MXFP4", "NVFP4", "BF16", "FP16", "FP32", "F16", "F32", "TQ1_0", "TQ2_0", "Q1_0"];
    const SUFFIXES: [&str; 22] = [
        "0", "1", "2", "4", "8", "K", "KS", "KT", "KV", "KSS", "KL", "S", "M", "L", "XL", "XXL", "XS", "XXS", "NL",
        "R4", "R8", "P",
    ];
    let ends = |len: usize| bytes.get(len).is_none_or(|byte| !byte.is_ascii_alphanumeric());
    let begins = |text: &str| bytes.get(..text.len()).is_some_and(|found| found.eq_ignore_ascii_case(text.as_bytes()));
    if let Some(found) = WHOLE.iter().find(|text| begins(text) && ends(text.len())) {
        return Some(found.len());
    }
    let letters = usize::from(bytes.first()?.eq_ignore_ascii_case(&b'I'));
    let is_q = bytes.get(letters)?.eq_ignore_ascii_case(&b'Q');
    let mut len = letters + 2;
    if !is_q || !matches!(bytes.get(len - 1)?, b'1'..=b'8') || !ends(len) {
        return None;
    }
    while bytes.get(len) == Some(&b'_') {
        let word = bytes[len + 1..].split(|byte| !byte.is_ascii_alphanumeric()).next().unwrap_or_default();
        if !SUFFIXES.iter().any(|suffix| suffix.as_bytes().eq_ignore_ascii_case(word)) {
            break;
        }
        len += 1 + word.len();
    }
    Some(len)
}

fn normalize(quant: &str) -> String {
    match quant.to_ascii_uppercase().as_str() {
        "FP16" => "F16".to_owned(),
        "FP32" => "F32".to_owned(),
        other => other.to_owned(),
    }
}

/// The name of a model without what differs between files of the same one.
fn model_of(rest: &str) -> String {
    const NOISE: [&str; 7] = ["gguf", "ggml", "imat", "imatrix", "i1", "ud", "quant"];
    let lower = rest.to_ascii_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty() && !NOISE.contains(word));
    words.collect()
}
