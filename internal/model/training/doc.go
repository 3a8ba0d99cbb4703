// Package training makes models of package model from traffic: it reads samples from access logs, from an owner's labelled
// cases and from other recorded traffic, trains, tests on clients that were not trained on, and writes the model's card.
//
// A label is a claim about the truth, and most of what these sources know is weak: see [Log] for what a
// log's labels are worth. A case that a person labelled is worth more than all of it.
package training
