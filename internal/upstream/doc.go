// Package upstream carries one request to one upstream server and its answer
// back, so that a reader does not notice that anybody stands between.
//
// An [Upstream] is one origin: an HTTP/1.1 server over TCP, TLS or a Unix
// socket, or an HTTP/2 server without TLS (h2c). [Upstream.Forward] sends a
// request and relays what comes back: path and query byte for byte, bodies as
// a stream in both directions, interim responses (RFC 9110 §15.2), trailers,
// and protocol upgrades. What belongs to one hop only (RFC 9110 §7.6.1) stays
// on that hop.
//
// When nothing was written yet and the upstream fails, Forward writes nothing
// and says what happened, so that the caller answers in its own words:
//
//	res, err := up.Forward(w, r, &upstream.Options{Set: forwarded})
//	switch {
//	case err == nil:
//	case res.Started:
//		panic(http.ErrAbortHandler) // the answer broke off: so must the connection
//	default:
//		page.Write(w, r, res.Failure.Status())
//	}
//
// The HTTP/1.1 client is the package's own and has no goroutine per
// connection: a request without a body, or with a short one, is written and its
// answer read by the calling goroutine. That is most of what makes it cheaper
// than [net/http/httputil.ReverseProxy]; see the benchmarks.
//
// The server in front should set [http.Server.DisableGeneralOptionsHandler], or
// "OPTIONS *" is answered before it gets here. The ResponseWriter may be a
// wrapper if it has an Unwrap method; see [http.ResponseController]. Who wraps
// the request's body should do so on a copy of the request: net/http looks at
// its own to end a connection gently after an upload that nobody wanted.
//
// Two things HTTP/2 clients do without, because net/http's server does: they are
// told to continue ("Expect: 100-continue") by the edge and not by the upstream,
// and cannot open WebSockets (RFC 8441), for which browsers use HTTP/1.1.
package upstream
