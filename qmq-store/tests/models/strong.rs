//! Sequentially consistent atomics. loom takes `SeqCst` accesses for acquire and release ones, and knows a single order only of fences; so
//! these put a fence on either side of each access. That is slightly more than the language promises to their neighbours, which
//! the code modelled does not rely on: what it orders is these words among themselves. A store is a swap: loom lets an exchange that
//! comes after a plain store, and knows of it, miss it.

use std::sync::atomic::Ordering;

use loom::sync::atomic::fence;

macro_rules! strong {
    ($name:ident, $value:ty) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name(loom::sync::atomic::$name);

        impl $name {
            pub(crate) fn load(&self, order: Ordering) -> $value {
                around(order, || self.0.load(weaker(order, Ordering::Acquire)))
            }

            #[allow(dead_code, reason = "not every word is stored")]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                around(order, || {
                    self.0.swap(value, weaker(order, Ordering::AcqRel));
                });
            }
        }
    };
}

macro_rules! counting {
    ($name:ident, $value:ty) => {
        strong!($name, $value);

        impl $name {
            pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                around(order, || {
                    self.0.fetch_add(value, weaker(order, Ordering::AcqRel))
                })
            }

            #[allow(dead_code, reason = "not every word is counted down")]
            pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                around(order, || {
                    self.0.fetch_sub(value, weaker(order, Ordering::AcqRel))
                })
            }

            #[allow(dead_code, reason = "not every word is raised")]
            pub(crate) fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                around(order, || {
                    self.0.fetch_max(value, weaker(order, Ordering::AcqRel))
                })
            }
        }
    };
}

strong!(AtomicBool, bool);
counting!(AtomicU32, u32);
counting!(AtomicU64, u64);

impl AtomicBool {
    pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
        around(order, || {
            self.0.swap(value, weaker(order, Ordering::AcqRel))
        })
    }
}

fn around<T>(order: Ordering, access: impl FnOnce() -> T) -> T {
    let strong = order == Ordering::SeqCst;
    if strong {
        fence(Ordering::SeqCst);
    }
    let outcome = access();
    if strong {
        fence(Ordering::SeqCst);
    }
    outcome
}

fn weaker(order: Ordering, instead: Ordering) -> Ordering {
    if order == Ordering::SeqCst {
        instead
    } else {
        order
    }
}
