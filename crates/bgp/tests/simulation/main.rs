//! Speakers under a virtual clock, over connections that delay, break and get lost, with processes that die and come
//! back. Everything follows from a seed, which is printed.

mod alias;
mod network;
mod scenarios;
