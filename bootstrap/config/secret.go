package config

// Secret is a string that does not print itself.
type Secret string

// String hides the secret.
func (Secret) String() string { return "[redacted]" }

// GoString hides the secret.
func (Secret) GoString() string { return "[redacted]" }

// MarshalText hides the secret.
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Secrets returns a setting that is a comma-separated list of secrets, given as Text takes it.
func (e *Env) Secrets(name, example string) []Secret {
	text := e.Text(name, example)
	if text == "" {
		return nil
	}
	var secrets []Secret
	for _, s := range splitTrim(text) {
		if s == "" {
			e.Wrong(name, example, "has an empty secret")
			continue
		}
		secrets = append(secrets, Secret(s))
	}
	return secrets
}
