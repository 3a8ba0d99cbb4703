package maze

import "strings"

// Names of people, from many places; 64 of each.
const (
	firstNames = "Aaron Adaeze Agnes Ahmed Aiko Alejandra Amara Anders Andrea Anil Anna Arjun Astrid Beatriz Benedikt Camille Carlos Chiara Chloe Daniel Daria " +
		"David Dimitri Elena Emeka Emil Erik Esther Fatima Felix Frances Gabriel Grace Hannah Haruto Ines Ingrid Ivan Jakub James Joana Jonas Julia " +
		"Karim Katarina Kenji Laura Leila Lena Lucas Maja Marco Maria Mateo Mei Nadia Nikhil Nora Oliver Omar Paula Rosa Samuel Sofia"
	lastNames = "Abe Acheampong Almeida Andersen Bakker Banerjee Barros Bauer Becker Bennett Bergman Bianchi Brandt Carvalho Castillo Chen Costa Dahl Delgado " +
		"Diallo Dubois Eriksen Farkas Ferrari Fischer Fonseca Garcia Graham Haddad Hansen Harding Hofmann Horvat Hughes Ibrahim Ito Iyer Jansen Kaya " +
		"Keller Kim Kowalski Larsen Laurent Lindholm Mensah Moreau Morgan Nakamura Novak Okafor Olsen Pereira Petrov Ramos Rossi Sato Schmid Silva " +
		"Singh Tanaka Varga Vogel Weber"
)

// lists are the words that a maze has of its own.
type lists struct {
	first, last         []string // names
	nouns, verbs, types []string // of code
}

func newLists() lists {
	return lists{
		first: strings.Fields(firstNames), last: strings.Fields(lastNames),
		nouns: strings.Fields(codeNouns), verbs: strings.Fields(codeVerbs), types: strings.Fields(codeTypes),
	}
}

// pick returns the word that belongs to h.
func pick(words []string, h uint64) string { return words[h%uint64(len(words))] }

// appendName appends the name of a person.
func (w *writer) appendName(dst []byte, f ref) []byte {
	h := w.of(f, 4)
	dst = append(dst, pick(w.m.lists.first, h)...)
	dst = append(dst, ' ')
	if h>>60 < 3 { // some have an initial
		dst = append(dst, "ABCDEFGHJKLMNPRSTW"[h>>40%18], '.', ' ')
	}
	return append(dst, pick(w.m.lists.last, h>>20)...)
}
