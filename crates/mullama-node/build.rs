//! Link arguments of a Node.js addon, which differ between systems.

fn main() {
    napi_build::setup();
}
