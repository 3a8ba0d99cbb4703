// Package providers holds our stand-ins for providers of language models to what the providers' own libraries expect: what those read whole, our translation
// is tried on. It is a module of its own, so that none of these libraries is among the program's.
package providers
