package main

import (
	"bytes"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/model/training"
	"github.com/quickthorn/quickthorn/internal/run"
)

func modelCommand(env *environment) *cobra.Command {
	root := command.Group(&cobra.Command{Use: "model", Short: "See the trained model, and train one on your own labelled cases"})
	show := &cobra.Command{
		Use: "show [FILE]", Short: "Show what a model was trained on, how good it is, and what counts in it (default: the one in use)", Args: command.NeedArgs(0, 1, "one model file"),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := env.Load()
			if err != nil {
				return err
			}
			file := cfg.Escalation.Model
			if len(args) > 0 {
				file = args[0]
			}
			m, err := run.LoadModel(file)
			if err != nil {
				return err
			}
			return writeJSON(env.Stdout, m.File())
		},
	}
	var out, version string
	var seed uint64
	train := &cobra.Command{
		Use: "train", Short: "Train a model on the shipped samples and on the cases that you have labelled", Args: command.NoArgs,
		Long: `Train a model on the shipped samples and on the cases that you have labelled (quickthorn cases label), and say how good it is on clients that
it was not trained on. Use it with escalation.model. It reads the archive in the data directory; nothing may run on it meanwhile.`,
		Example: "  quickthorn model train --out model.json --version my-site-1",
	}
	train.Flags().StringVar(&out, "out", "model.json", "`file` to write")
	train.Flags().StringVar(&version, "version", "own", "what the model is called")
	train.Flags().Uint64Var(&seed, "seed", 1, "what is left to chance")
	train.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := env.Load()
		if err != nil {
			return err
		}
		archive, done, err := env.openArchive(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		o := training.Defaults()
		o.Version, o.Seed = version, seed
		r, err := training.Build(cmd.Context(), training.Options{Train: o, Sources: []training.Source{training.Kept{}, &training.Cases{Store: archive}}})
		if e := done(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := r.Model.Write(&b); err != nil {
			return err
		}
		if err := os.WriteFile(out, b.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write the model: %w", err)
		}
		t := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
		f := r.Model.File()
		fmt.Fprintf(t, "written\t%s, version %s\n", out, f.Version)
		fmt.Fprintf(t, "samples\t%v\n", f.Training.Labels)
		fmt.Fprintf(t, "on clients held out\tAUC %.3f, log-loss %.3f\n", f.Metrics.AUC, f.Metrics.LogLoss)
		return t.Flush()
	}
	root.AddCommand(show, train)
	return root
}
