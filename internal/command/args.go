package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// usageError is a command line that cannot be understood. It ends the program with status 2.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// Usagef is an error about a command line that cannot be understood: the program ends with status 2.
func Usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// Group makes c a command that only holds others: alone it shows its help, and an
// unknown name under it is an error, where cobra would show help and succeed.
func Group(c *cobra.Command) *cobra.Command {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		hint := fmt.Sprintf("%s --help lists them", c.CommandPath())
		if c.SuggestionsMinimumDistance <= 0 {
			c.SuggestionsMinimumDistance = 2
		}
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			hint = "did you mean " + strings.Join(near, " or ") + "?"
		}
		return Usagef("unknown command %q for %s (%s)", args[0], c.CommandPath(), hint)
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return c
}

// called is the name of c as it is typed after the program's.
func called(c *cobra.Command) string {
	if !c.HasParent() {
		return c.Name()
	}
	return strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")
}

// NoArgs refuses arguments.
func NoArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usagef("%s takes no argument such as %q (%s --help)", called(c), args[0], c.CommandPath())
	}
	return nil
}

// NeedArgs asks for at least least and at most most arguments (0: any number); what says which.
func NeedArgs(least, most int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return Usagef("%s: name %s (%s --help)", called(c), what, c.CommandPath())
		case most > 0 && len(args) > most:
			return Usagef("%s: %q is one argument too many: name %s (%s --help)", called(c), args[most], what, c.CommandPath())
		}
		return nil
	}
}

// flagError words what is wrong with a flag and, for an unknown one, what may have been meant.
func flagError(c *cobra.Command, err error) error {
	text := err.Error()
	var unknown interface{ GetSpecifiedName() string } // *pflag.NotExistError
	if errors.As(err, &unknown) {
		if near := nearFlag(c, unknown.GetSpecifiedName()); near != "" {
			return Usagef("%s: %s (did you mean --%s?)", called(c), text, near)
		}
	}
	return Usagef("%s: %s (%s --help)", called(c), text, c.CommandPath())
}

// nearFlag finds the flag of c that name may have meant, by cobra's measure for commands.
func nearFlag(c *cobra.Command, name string) string {
	names := &cobra.Command{SuggestionsMinimumDistance: 2}
	for word := range strings.FieldsSeq(c.Flags().FlagUsages()) {
		if flag, ok := strings.CutPrefix(word, "--"); ok {
			names.AddCommand(&cobra.Command{Use: flag, Run: func(*cobra.Command, []string) {}})
		}
	}
	if near := names.SuggestionsFor(name); len(name) > 1 && len(near) > 0 {
		return near[0]
	}
	return ""
}
