package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/bootstrap/cli/session"
)

func (t terminal) logout() *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "End a login and remove its tokens",
		Long: `Logout has the issuer revoke the profile's login where it can, and removes its tokens from this machine in any case. The
profile's settings stay, for the next login.`,
		Example: `  jobgate logout
  jobgate logout --profile staging`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			profile, err := cmd.Flags().GetString("profile")
			if err != nil {
				return err
			}
			s, err := session.OpenForLogout(t.getenv, profile, t.now)
			if err != nil {
				return err
			}
			removed, err := s.Logout(cmd.Context())
			if err != nil {
				return err
			}
			if !removed {
				fmt.Fprintf(t.stdout, "not logged in (profile %s)\n", s.Profile().Name)
				return nil
			}
			fmt.Fprintf(t.stdout, "logged out (profile %s)\n", s.Profile().Name)
			return nil
		},
	}
}
