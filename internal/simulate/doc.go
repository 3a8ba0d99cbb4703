// Package simulate plays the traffic of a web site: readers with real browsers' habits, crawlers polite and impolite, feed
// readers, git clients, a flash crowd, and campaigns that spread over thousands of addresses.
//
// A [Scenario] builds [Actor]s from a seed. An actor is a small state machine of one client; a player sends its
// requests and gives it the answers: [Virtual] to a handler in virtual time, where an hour takes seconds and the same seed gives the same
// traffic, [Live] over HTTP in real time. Both return a [Result]: what each kind of client met, who was caught, who got
// through, and which reader was harmed.
//
// Actors know nothing of quickthorn. A reader passes a check as a browser does, because the answer tells it to refresh and
// to keep a cookie; a campaign does not, because its program reads pages and nothing else.
//
// Simulated readers are only as good as what is known of real ones. A policy that harms them is wrong; one that
// spares them may still harm somebody.
package simulate
