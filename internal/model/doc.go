// Package model is the trained classifier of the escalation engine: how likely is it, from what a client
// did, that the client is a program.
//
// It is an additive model: every feature of package behaviour has a table of log-odds by ranges of its
// value, and the probability is the logistic function of their sum and a bias. So it can be read by a
// person, each feature's part in an answer is exact rather than estimated, and no feature
// can count for more than [MaxLogOdds]. What was not observed counts what the file says for it, which for
// the built-in model is nothing: unknown is not absent.
//
// Advice to callers. The model knows behaviour only. It does not know whether a program is wanted: a search
// engine's crawler is as much a program as a scraper, and it is identity and policy that tell them apart.
// Its probability holds for equally many people and programs; put it beside a prior of your own.
// docs/model-card.md says what it was trained on, how well it does, and what it cannot do.
//
// The file is JSON with a version of its own ([Format]) and the version of the list of features that it was
// trained on; a file of another version is refused rather than guessed at. [Train] makes one from labelled samples,
// always the same from the same samples and seed; package training reads samples from logs, cases and simulations.
package model
