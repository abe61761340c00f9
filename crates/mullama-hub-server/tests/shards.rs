//! The files that a model is split into.

use mullama_hub_server::{shard_names, split};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf");

#[test]
fn a_split_model_passes_the_check_of_gguf_files() {
    let folder = std::env::temp_dir().join(format!("mullama-hub-server-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let names = shard_names("demo", 3);
    for (name, shard) in names.iter().zip(split(&std::fs::read(DEMO).unwrap(), 3)) {
        std::fs::write(folder.join(name), shard.to_vec()).unwrap();
    }
    let checked = mullama::gguf::check(&folder.join(&names[0]));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(checked.unwrap().shards, 3);
}
