// Package challenge tells people from programs, on one page that works without
// JavaScript and improves with it.
//
// A ladder of kinds stands in the policy: silent, refresh, work, question, captcha. A visitor begins
// at the first; one that a browser cannot do is followed by the next, by itself. Whatever is
// passed earns a clearance (package clearance) with a budget, and what costs a scraper less earns
// less. What the page needs to come back is in a signed ticket, so nothing is stored for a challenge that is
// shown; only that a ticket was redeemed is remembered, for as long as it could be shown again.
//
// The one rule that must never break: nothing in here may lock a reader out for
// the state of their clock, their address, their other tabs, or for what their browser lacks.
package challenge
