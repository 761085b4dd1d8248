//! Who may do what: principals, tokens, rights by subject pattern.
