package service

import (
	"fmt"
	"os"

	"github.com/quickthorn/quickthorn/internal/config"
)

// MakeData makes the data directory.
func MakeData(c *config.Config) error {
	if err := os.MkdirAll(c.Data.Directory, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	return nil
}
