//! Output shards whose every byte has its place before the first one is written.
//!
//! [`Writer`] takes bytes from several threads, in place, into blocks of its own pool, and writes full blocks while the
//! threads go on. [`journal`] remembers which tensors are safely on disk, so that an interrupted run continues;
//! [`commit`] turns the finished partial folder into the model in one step. Nothing before that step looks like a model:
//! shards are called `NAME.part`.

mod blocks;
pub mod checksum;
mod commit;
mod direct;
mod factors_file;
mod flush;
mod header;
pub mod journal;
mod output;
mod pool;
mod prepare;
mod ranges;
mod shard;

pub use commit::commit;
pub use factors_file::FactorsFile;
pub use header::{job_bytes, shard_header};
pub use journal::{Finished, Resume, clear, plan_hash, resume};
pub use output::{WriteSummary, Writer, WriterOptions, blocks_needed};
