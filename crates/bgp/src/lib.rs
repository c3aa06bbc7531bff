//! A BGP speaker as a pure state machine: wire codec, sessions, RIBs, best path
