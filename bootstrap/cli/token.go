package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (t terminal) token() *cobra.Command {
	return &cobra.Command{
		Use:   "token",
		Short: "Print a valid access token",
		Long: `Token prints the profile's access token, or a new one when that is about to expire. Whoever has it can do what you can:
it is for other programs, and no other command prints it.`,
		Example: `  jobgate token | OIDC_ISSUER=http://127.0.0.1:8080/oidc OIDC_AUDIENCE=jobgate jobgate explain
  curl -H "Authorization: Bearer $(jobgate token)" http://127.0.0.1:8080/jobs`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := t.session(cmd)
			if err != nil {
				return err
			}
			token, err := s.Token(cmd.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(t.stdout, token)
			return err
		},
	}
}
