//! One error for every stage.
