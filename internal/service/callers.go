package service

import (
	"fmt"
	"strings"

	"github.com/quickthorn/quickthorn/internal/auth"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/private"
)

// Callers are who may call this program. The operator's key is the configured one, or that of the data directory, which is made when make
// is set and there is none.
func (s *Service) Callers(make bool) (*auth.Callers, error) {
	c := s.Config
	operator := c.Private.Key
	if operator == "" && make {
		var err error
		if operator, err = private.LoadKey(c.Data.Directory); err != nil {
			return nil, err
		}
	}
	keys := []auth.Key{
		{Caller: auth.Operator, Key: operator},
		{Caller: auth.Proxy, Key: c.Auth.Proxy.Key, Previous: c.Auth.Proxy.Previous},
		{Caller: auth.AIService, Key: c.Auth.AIService.Key, Previous: c.Auth.AIService.Previous},
		{Caller: auth.EscalationEngine, Key: c.Auth.EscalationEngine.Key, Previous: c.Auth.EscalationEngine.Previous},
		{Caller: auth.PromptRouter, Key: c.Auth.PromptRouter.Key, Previous: c.Auth.PromptRouter.Previous},
	}
	for i := range c.Intake.Sources {
		keys = append(keys, auth.Key{Caller: auth.SourcePrefix + c.Intake.Sources[i].Name, Key: c.Intake.Sources[i].Key})
	}
	for i := range c.Gateway.Keys {
		if k := &c.Gateway.Keys[i]; k.Hash != "" {
			keys = append(keys, auth.Key{Caller: auth.ModelKeyPrefix + k.Name, Hash: strings.TrimPrefix(k.Hash, config.HashPrefix)})
		}
	}
	return auth.New(keys...)
}

// NeedKey is an error that names both settings when neither the key nor the file that does instead is set; why says who must know whom.
func NeedKey(path, key, filePath, file, why string) error {
	if key != "" || file != "" {
		return nil
	}
	name := config.EnvName(path)
	return fmt.Errorf("%s: set %s (or %s_FILE), or %s", why, name, name, filePath)
}
