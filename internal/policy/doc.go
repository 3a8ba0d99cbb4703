// Package policy reads, checks and runs policies: ordered rules in YAML with
// conditions in CEL, written by the owner of a site or taken from a preset.
//
// Most sites need no policy of their own. [Load] takes a preset's name
// ("readers-first", the default; "block-ai-training"; "siege") or a file that
// imports one and adds what is special about the site:
//
//	name: my-forge
//	imports: [readers-first]
//	rules:
//	  - name: office
//	    when: client.address.within("192.0.2.0/24")
//	    action: allow
//
// docs/policy.md describes the language. Everything that can be wrong with a
// policy is found by [Compile], as a list of [Problem] values with file, line
// and column: unknown keys, unknown variables, constants that a variable can
// never equal, invalid ranges and expressions. A [Policy] that compiled cannot
// fail while it judges a request; the few CEL expressions that can go wrong at
// run time (a division by zero, an exhausted cost limit) make their rule not
// match, so that an error never locks a reader out.
//
// Conditions are checked by cel-go and then, where the expression allows it,
// lowered into Go closures that neither allocate nor reflect. What cannot be
// lowered (macros such as exists, conversions, maps) is interpreted by cel-go
// with a cost limit. Both ways agree; the tests hold them against each other.
//
// A Policy is immutable and safe for concurrent use. [Reloader] swaps policies
// while requests are judged and keeps the old one when the new one is wrong.
package policy
