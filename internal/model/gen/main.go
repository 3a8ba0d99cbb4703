// Command gen measures the samples of the built-in model, trains it, and writes samples, model and card.
//
//	go generate ./internal/model
//
// The same data, seed and version give the same files. The version is part of the command, not of a clock: raise
// it when the model changes.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/quickthorn/quickthorn/internal/model"
	"github.com/quickthorn/quickthorn/internal/model/training"
)

func main() {
	log := flag.String("log", "../accesslog/testdata/elastic-apache_logs.log.gz", "the access log to learn from")
	samples := flag.String("samples", "training/samples.ndjson.gz", "samples to write, which the model is then made of")
	out := flag.String("out", "model.json", "model to write")
	card := flag.String("card", "../../docs/model-card.md", "card to write")
	flag.Parse()
	if err := run(context.Background(), *log, *samples, *out, *card); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, log, samples, out, card string) error {
	measured, err := measure(ctx, log)
	if err != nil {
		return err
	}
	// The model is made of what the file will give, with its rounded numbers.
	given, err := training.ReadSamples(bytes.NewReader(measured))
	if err != nil {
		return err
	}
	o, text := training.BuiltIn(training.Given(given))
	o.Checks = true
	r, err := training.Build(ctx, o)
	if err != nil {
		return err
	}
	var file, page bytes.Buffer
	if err := r.Model.Write(&file); err != nil {
		return err
	}
	if err := text.Write(&page, r); err != nil {
		return err
	}
	for name, content := range map[string][]byte{samples: measured, out: file.Bytes(), card: page.Bytes()} {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// measure returns the text of the samples' file.
func measure(ctx context.Context, log string) ([]byte, error) {
	sources, err := training.Sources(log)
	if err != nil {
		return nil, err
	}
	var all []model.Sample
	for _, s := range sources {
		more, err := s.Samples(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	var b bytes.Buffer
	err = training.WriteSamples(&b, all)
	return b.Bytes(), err
}
