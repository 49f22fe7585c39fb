// The pages of the guide, which are files of `docs/guide`. No process has them: they are documentation.

#![doc = concat!(include_str!("../docs/guide/links.md"), include_str!("../docs/guide/README.md"))]
#![cfg_attr(docsrs, doc(auto_cfg = false))] // what stands in the way of its tests is no news to a reader

// For `cargo doc`, and for the documentation tests, which compile and run the code of the pages. The
// library itself has nothing of it.
//
// Pages link to each other by name, `[title][name]`, and each file ends with a list of the names that
// it uses, for those who read the files. Of two definitions of a name the first counts, so behind
// `links.md` a name is a module.
//
// A page is a file in `docs/guide`, and a line in each of: the list below, `links.md`, and the guide's
// `README.md`. The test `guide` says what is missing. A page whose code needs crates that are no
// dependencies of this one is marked `#[tested_elsewhere]`, which is never set: a package below `examples`
// tests its code.
macro_rules! pages {
    ($($(#[$condition:meta])? $name:ident)*) => {$(
        $(#[cfg(any(doc, $condition))])?
        #[doc = concat!(
            include_str!("../docs/guide/links.md"),
            include_str!(concat!("../docs/guide/", stringify!($name), ".md")),
        )]
        pub mod $name {}
    )*};
}

pages! {
    which_executor
    task_size
    cancellation
    backpressure
    service
    observability
    testing
    #[tested_elsewhere] progress
    #[tested_elsewhere] tracing
    failures
    worker_processes
    sharing
    from_concurrent_futures
    from_multiprocessing
    from_joblib
    from_asyncio
    from_spawn_blocking
    #[tested_elsewhere] from_rayon
    comparison
}
