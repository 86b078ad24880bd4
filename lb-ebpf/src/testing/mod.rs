//! Heap frames, memory tables, packets and cases: the packet path on the host.
