// Package session knows people who are logged in by what the site itself has told: a proof that the value of their session cookie was set by
// the upstream. A cookie that somebody made up proves nothing.
//
// When the upstream sets a session cookie in its answer to a log-in form, the edge adds a cookie of its own ([Cookie]) with a MAC over the
// site's name, the cookie's name and its value. Nothing is stored: every edge with the same keys accepts it. When the upstream renews the session cookie
// the proof is renewed with it ([Prover.Renew]), when it deletes it so is the proof.
//
// What it does not prove: that the session is somebody's. Many applications answer a form that was filled in wrongly with a session for an unknown
// visitor, and who sends such a form gets a proof. Answers with a status of 400 or more earn none, and a cookie must be new or have changed; more is not to be
// seen from outside. An owner who names the cookies that are set for people who are logged in ([Options.Names]) closes that gap. A proof may also be
// copied along with its session, as any cookie may, and it does not end when the application ends the session without telling the browser, but
// after [MaxAge].
//
// The proof is sent to the host that set it: who logs in at accounts.example.com has no proof at www.example.com until that sets a cookie of
// its own.
package session
