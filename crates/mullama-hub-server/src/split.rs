//! Splits a GGUF file into several, as llama.cpp's `gguf-split` does.

use crate::Content;

/// Tensors' data begins at a multiple of this, in bytes.
const ALIGNMENT: usize = 32;

/// A cursor over the header of a valid GGUF file of version 3.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// One tensor: its entry without the offset, and its data.
struct Tensor<'a> {
    entry: &'a [u8],
    data: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        taken
    }

    fn u32(&mut self) -> usize {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes")) as usize
    }

    fn u64(&mut self) -> usize {
        usize::try_from(u64::from_le_bytes(self.take(8).try_into().expect("eight bytes"))).expect("a small number")
    }

    fn text(&mut self) {
        let len = self.u64();
        self.take(len);
    }

    fn value(&mut self, kind: usize) {
        match kind {
            0 | 1 | 7 => drop(self.take(1)),
            2 | 3 => drop(self.take(2)),
            4..=6 => drop(self.take(4)),
            8 => self.text(),
            9 => {
                let (kind, count) = (self.u32(), self.u64());
                (0..count).for_each(|_| self.value(kind));
            }
            _ => drop(self.take(8)),
        }
    }
}

/// The names of the `count` files that a model is split into, in order.
pub fn shard_names(prefix: &str, count: u16) -> Vec<String> {
    (1..=count).map(|number| format!("{prefix}-{number:05}-of-{count:05}.gguf")).collect()
}

/// Splits a valid GGUF file into `count` files with about as many tensors each.
///
/// # Panics
///
/// If the file is no valid GGUF file of version 3, or has fewer tensors than `count`.
pub fn split(model: &[u8], count: u16) -> Vec<Content> {
    let mut reader = Reader { bytes: model, at: 8 };
    let (tensor_count, key_count) = (reader.u64(), reader.u64());
    let first_key = reader.at;
    for _ in 0..key_count {
        reader.text();
        let kind = reader.u32();
        reader.value(kind);
    }
    let keys = &model[first_key..reader.at];
    let tensors = read_tensors(&mut reader, tensor_count);
    let each = tensor_count.div_ceil(count.into());
    let shards: Vec<_> = tensors.chunks(each).collect();
    assert_eq!(shards.len(), usize::from(count), "{tensor_count} tensors in {count} files");
    let shards = (0..count).zip(shards).map(|(number, tensors)| {
        let (keys, key_count) = if number == 0 { (keys, key_count) } else { (&[][..], 0) };
        let split = split_keys(number, count, tensor_count);
        write_shard([keys, &split].concat(), key_count + 3, tensors)
    });
    shards.map(Content::bytes).collect()
}

fn read_tensors<'a>(reader: &mut Reader<'a>, count: usize) -> Vec<Tensor<'a>> {
    let entries: Vec<_> = (0..count)
        .map(|_| {
            let begin = reader.at;
            reader.text();
            let dimensions = reader.u32();
            reader.take(8 * dimensions + 4);
            (&reader.bytes[begin..reader.at], reader.u64())
        })
        .collect();
    let data = &reader.bytes[reader.at.next_multiple_of(ALIGNMENT)..];
    let ends = entries.iter().skip(1).map(|(_, offset)| *offset).chain([data.len()]);
    entries.iter().zip(ends).map(|((entry, offset), end)| Tensor { entry, data: &data[*offset..end] }).collect()
}

fn split_keys(number: u16, count: u16, tensors: usize) -> Vec<u8> {
    let mut keys = Vec::new();
    let mut add = |name: &str, kind: u32, value: &[u8]| {
        keys.extend((name.len() as u64).to_le_bytes());
        keys.extend(name.as_bytes());
        keys.extend(kind.to_le_bytes());
        keys.extend(value);
    };
    add("split.no", 2, &number.to_le_bytes());
    add("split.count", 2, &count.to_le_bytes());
    add("split.tensors.count", 5, &i32::try_from(tensors).expect("few tensors").to_le_bytes());
    keys
}

fn write_shard(keys: Vec<u8>, key_count: usize, tensors: &[Tensor<'_>]) -> Vec<u8> {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((key_count as u64).to_le_bytes());
    out.extend(keys);
    let mut offset = 0;
    for tensor in tensors {
        out.extend(tensor.entry);
        out.extend((offset as u64).to_le_bytes());
        offset += tensor.data.len().next_multiple_of(ALIGNMENT);
    }
    for tensor in tensors {
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out.extend(tensor.data);
    }
    out
}
