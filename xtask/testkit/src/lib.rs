//! Network namespaces, links and real TCP peers for the demo and the network tests.
