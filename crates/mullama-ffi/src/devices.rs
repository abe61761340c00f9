//! Lists the devices that llama.cpp can compute on, with their memory.

use std::ffi::c_char;

use crate::error::{Error, check};
use crate::{backend, sys};

/// Above the number of devices of any machine; llama.cpp itself uses at most 16 of a kind.
const MAX_DEVICES: usize = 64;

/// The kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// The processor, with the system's memory.
    Cpu,
    /// A GPU with its own memory.
    Gpu,
    /// A GPU inside the processor, which shares the system's memory.
    IntegratedGpu,
    /// An accelerator of the processor, such as a BLAS library or AMX; it holds no layers.
    Accelerator,
    /// A kind that this version of mullama does not know.
    Other,
}

impl DeviceKind {
    /// A lower-case word: `cpu`, `gpu`, `igpu`, `accelerator` or `other`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::IntegratedGpu => "igpu",
            Self::Accelerator => "accelerator",
            Self::Other => "other",
        }
    }

    /// Whether layers of a model can be offloaded to it.
    pub const fn holds_layers(self) -> bool {
        matches!(self, Self::Gpu | Self::IntegratedGpu)
    }

    fn from_raw(kind: i32) -> Self {
        match u32::try_from(kind) {
            Ok(sys::GGML_BACKEND_DEVICE_TYPE_CPU) => Self::Cpu,
            Ok(sys::GGML_BACKEND_DEVICE_TYPE_GPU) => Self::Gpu,
            Ok(sys::GGML_BACKEND_DEVICE_TYPE_IGPU) => Self::IntegratedGpu,
            Ok(sys::GGML_BACKEND_DEVICE_TYPE_ACCEL) => Self::Accelerator,
            _ => Self::Other,
        }
    }
}

/// A device that llama.cpp was compiled for and found on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Device {
    /// llama.cpp's name for it, such as `CPU` or `CUDA0`.
    pub name: String,
    /// The vendor's name for it.
    pub description: String,
    /// The kind of the device.
    pub kind: DeviceKind,
    /// Free memory in bytes at the time of the call.
    pub memory_free: u64,
    /// Total memory in bytes.
    pub memory_total: u64,
}

/// The devices that llama.cpp can compute on, in its order. A build without a GPU backend lists only the CPU.
///
/// # Errors
///
/// An error from C++, for example of a driver that fails to report its memory.
pub fn devices() -> Result<Vec<Device>, Error> {
    backend::init()?;
    let mut raw: Vec<sys::Device> = Vec::with_capacity(MAX_DEVICES);
    let mut count = 0;
    // SAFETY: the vector has room for as many entries as the shim may write.
    let status = unsafe { sys::mullama_devices(raw.as_mut_ptr(), MAX_DEVICES, &raw mut count) };
    check("ggml_backend_dev_memory", status)?;
    // SAFETY: the shim wrote the first `count` entries, which is at most the capacity, and integers have no invalid
    // values.
    unsafe { raw.set_len(count.min(MAX_DEVICES)) };
    Ok(raw.iter().map(Device::from_raw).collect())
}

impl Device {
    fn from_raw(raw: &sys::Device) -> Self {
        Self {
            name: text(&raw.name),
            description: text(&raw.description),
            kind: DeviceKind::from_raw(raw.kind),
            memory_free: raw.memory_free,
            memory_total: raw.memory_total,
        }
    }
}

/// The characters before the first NUL.
fn text(buffer: &[c_char]) -> String {
    let bytes: Vec<u8> = buffer.iter().map(|byte| byte.to_ne_bytes()[0]).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
