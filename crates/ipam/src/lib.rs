//! IP address management: blocks, affinities, handles and the compare-and-swap protocol over a store
