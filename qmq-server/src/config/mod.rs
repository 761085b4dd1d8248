//! Settings from properties files: the keys, their ranges, where a value came from, and reloading.
