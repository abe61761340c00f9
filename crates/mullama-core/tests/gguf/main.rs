//! A GGUF file is checked before llama.cpp reads it: valid files pass, and errors about invalid ones say what is wrong
//! and where.

mod crash;
mod hyperparameters;
mod mutants;
mod shards;
mod structure;
mod vocabulary;
mod writer;
