// Package profile turns a request into a [defense.Profile] and says what is odd
// about it.
//
// A [Profiler] fills a profile from a live request ([Profiler.FromRequest]) or from a
// line of an access log ([Profiler.FromLog]). [Signals] then names what does not fit
// together: a browser that does not send what that browser sends, hints that
// contradict the User-Agent, no User-Agent at all. [SignalCatalogue] documents every
// signal, and [Unrunnable] lists those that a source could never have raised, because
// an access log does not hold what they look at.
//
// Advice to owners. A signal is a reason to look, not a proof: each can be silenced by a
// client that copies a browser's headers in full. The weights are set so that a genuine
// browser stays below 20 and a library that only borrowed a browser's name ends
// above 50; they can be changed, or switched off with 0, in the policy.
//
// Advice to callers. The kind of a request, like everything else here, rests on what the
// client says, and a header costs a scraper nothing. Kind therefore decides how a
// verdict is answered; only robots and well-known addresses, which are recognised by
// an unambiguous path alone, may be let through because of it.
package profile
