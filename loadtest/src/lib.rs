//! A load generator for a running Unmask server.
//!
//! [`trace`] draws requests from a seed, [`client`] performs one of them, [`run`] sends them in an open or
//! a closed loop, [`verify`] asks again whether load changed an answer, and [`report`] makes numbers of
//! the records, which [`table`] prints and [`plot`] draws. [`compare`] is the benchmark of continuous
//! batching, and [`fair`] the one of clients that share a server.

pub mod answer;
pub mod args;
pub mod call;
pub mod client;
pub mod compare;
pub mod ending;
pub mod fair;
pub mod observe;
pub mod plot;
pub mod quantiles;
pub mod report;
pub mod run;
pub mod shares;
pub mod table;
pub mod trace;
pub mod verify;
