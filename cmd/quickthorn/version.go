package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func versionCommand(env *environment) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				v, revision := buildVersion()
				return json.NewEncoder(env.stdout).Encode(map[string]string{
					"version": v, "revision": revision, "go": runtime.Version(), "os": runtime.GOOS, "architecture": runtime.GOARCH,
				})
			}
			_, err := fmt.Fprintln(env.stdout, versionLine())
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func versionLine() string {
	v, revision := buildVersion()
	return fmt.Sprintf("quickthorn %s (revision %s, %s %s/%s)", v, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// buildVersion returns the release version, or what the Go toolchain stamped.
func buildVersion() (v, revision string) {
	v, revision = version, "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "development", revision
	}
	if v == "" {
		v = info.Main.Version
	}
	if v == "" || v == "(devel)" {
		v = "development"
	}
	modified := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if modified {
		revision += "-modified"
	}
	return v, revision
}
