// Package clientaddr finds out who the client is when other proxies stand in
// front of the edge, and tells the upstream.
//
// Nothing that a client writes is believed. A header counts only when the
// connection comes from a trusted address, and in a list of hops only as far as trusted addresses
// reach from the right: the first hop from the right that is not trusted is the client. Therefore:
//
//   - Trust the addresses of your own proxies and nothing else. Trusting a
//     whole cloud provider or 0.0.0.0/0 lets its tenants, or everybody, claim any address.
//   - Believe only the headers that your proxy sets or appends to. nginx, for
//     one, passes a header that it was not told to set through as the client sent it: if yours sets
//     X-Real-IP alone, configure that header alone.
//
// The requests themselves are never refused here. A broken header is skipped,
// and when nothing usable is left the client is the peer.
package clientaddr
