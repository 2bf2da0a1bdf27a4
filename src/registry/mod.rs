//! The distribution client: login, blobs, manifests, referrers, push.
