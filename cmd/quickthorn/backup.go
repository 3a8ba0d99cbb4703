package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/backup"
	"github.com/quickthorn/quickthorn/internal/command"
)

func backupCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "Copy the data directory into one file, while it is in use or not", Args: command.NeedArgs(1, 1, "the file to write"),
		Long: "Copy decisions, settings, events and keys into one tar file, consistent even while quickthorn runs. The file holds keys: keep it safe.",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			cfg, a, err := env.connect(cmd.Context())
			if err != nil {
				return err
			}
			var source backup.Source = a
			if a == nil {
				if err := used(cfg); err != nil {
					return err
				}
				source = backup.Directory(cfg.Data.Directory)
			}
			if err := backup.Write(cmd.Context(), args[0], source); err != nil {
				return inUse(cfg, err)
			}
			fi, err := os.Stat(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.Stdout, "%s: %d bytes\n", args[0], fi.Size())
			return err
		},
	}
}

func restoreCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use: "restore FILE", Short: "Put a backup in place of the data directory", Args: command.NeedArgs(1, 1, "the backup to put back"),
		Long: "Put a backup in place of the data directory. quickthorn must not be running; what was there before is kept in it, in a directory of its own.",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, a, err := env.connect(cmd.Context())
			if err != nil {
				return err
			}
			if a != nil {
				return fmt.Errorf("quickthorn is running on this data directory: stop it first")
			}
			old, err := backup.Restore(cmd.Context(), args[0], cfg.Data.Directory)
			if err != nil {
				return inUse(cfg, err)
			}
			fmt.Fprintf(env.Stdout, "restored %s\n", cfg.Data.Directory)
			if old != "" {
				fmt.Fprintf(env.Stdout, "what was there before is in %s\n", old)
			}
			return nil
		},
	}
}
