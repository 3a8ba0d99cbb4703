package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/atomicfile"
	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/dotenv"
)

func initCommand(env *environment) *cobra.Command {
	example, file := ".env.example", ".env"
	c := &cobra.Command{
		Use: "init", Short: "Make the .env file of Docker Compose, with strong secrets", Args: command.NoArgs,
		Long: `Make the .env file of Docker Compose from .env.example: each blank variable that needs a secret gets one. In a file that exists
nothing that is set changes; variables that it lacks are added. Only its owner may read the file.`,
		RunE: func(*cobra.Command, []string) error {
			from, err := os.ReadFile(example)
			if err != nil {
				return fmt.Errorf("read the example: %w (go to the folder of docker-compose.yaml, or name it with --example)", err)
			}
			have, err := os.ReadFile(file)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err != nil {
				have = nil
			}
			out, filled, err := dotenv.Fill(from, have, nil)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			// Half a file would lose secrets that stores know already.
			if err := atomicfile.Replace(file, func(w io.Writer) error { _, err := w.Write(out); return err }); err != nil {
				return err
			}
			if len(filled) == 0 {
				fmt.Fprintf(env.Stdout, "%s has all its secrets\n", file)
				return nil
			}
			fmt.Fprintf(env.Stdout, "%s: made %s\n", file, strings.Join(filled, ", "))
			return nil
		},
	}
	c.Flags().StringVar(&example, "example", example, "the `file` that lists and explains the variables")
	c.Flags().StringVar(&file, "file", file, "the `file` to make or to fill")
	return c
}
