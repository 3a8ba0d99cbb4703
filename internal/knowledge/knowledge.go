// Package knowledge is what programs know of agents and signals.
package knowledge

import (
	"fmt"

	"github.com/quickthorn/quickthorn/internal/agent"
	"github.com/quickthorn/quickthorn/internal/crawler"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/policy"
	"github.com/quickthorn/quickthorn/internal/profile"
)

// Judges makes what turns requests into profiles and says which names a policy
// may use. It is shared by all that judge: run, explain, check, replay.
func Judges() (*profile.Profiler, policy.Options, error) {
	k, err := Read()
	if err != nil {
		return nil, policy.Options{}, err
	}
	return k.Profiler, k.Policy, nil
}

// Knowledge is what a program knows of agents, read once: the catalogue takes some megabytes.
type Knowledge struct {
	catalogue *crawler.Catalogue
	Profiler  *profile.Profiler
	Policy    policy.Options
}

func Read() (*Knowledge, error) {
	catalogue, err := crawler.Default()
	if err != nil {
		return nil, fmt.Errorf("read the crawler catalogue: %w", err)
	}
	k := &Knowledge{catalogue: catalogue, Profiler: profile.New(agent.New(catalogue))}
	for _, s := range profile.SignalCatalogue() {
		k.Policy.Vocabulary.Signals = append(k.Policy.Vocabulary.Signals, s.Name)
	}
	for _, c := range catalogue.All() {
		k.Policy.Vocabulary.Crawlers = append(k.Policy.Vocabulary.Crawlers, c.ID)
	}
	return k, nil
}

// Purpose says what a crawler of the catalogue fetches pages for.
func (k *Knowledge) Purpose(id string) (defense.Purpose, bool) {
	c := k.catalogue.ByID(id)
	if c == nil {
		return "", false
	}
	return c.Purpose, true
}
