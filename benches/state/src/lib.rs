//! Durable state measured beside plain SQLite and plain files: see the benchmarks of this package.
