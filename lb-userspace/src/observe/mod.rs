//! How the controller shows itself: the admin API on a unix socket, and the documents it speaks in.

pub mod documents;
