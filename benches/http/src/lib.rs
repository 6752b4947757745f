//! The health room measured beside bare servers: see the benchmark of this package.
