terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.46"
    }
  }
}

provider "aws" {
  region = var.region
}

variable "region" {
  description = "Region to deploy to."
  type        = string
  default     = "eu-west-1"
}

variable "domain_prefix" {
  description = "Begins the host name of the user pool's token endpoint; it must be free in the region."
  type        = string
}

resource "aws_cognito_user_pool" "jobs" {
  name = "jobgate"
}

resource "aws_cognito_user_pool_domain" "jobs" {
  domain       = var.domain_prefix
  user_pool_id = aws_cognito_user_pool.jobs.id
}

# Cognito's scopes look like jobgate/jobs:submit; OIDC_SCOPE_PREFIX takes the front off.
resource "aws_cognito_resource_server" "jobs" {
  identifier   = "jobgate"
  name         = "jobgate"
  user_pool_id = aws_cognito_user_pool.jobs.id

  scope {
    scope_name        = "jobs:submit"
    scope_description = "Submit jobs"
  }
  scope {
    scope_name        = "jobs:read"
    scope_description = "Read one's own jobs"
  }
}

# A machine that logs in with its own id and secret.
resource "aws_cognito_user_pool_client" "machine" {
  name                                 = "machine"
  user_pool_id                         = aws_cognito_user_pool.jobs.id
  generate_secret                      = true
  allowed_oauth_flows                  = ["client_credentials"]
  allowed_oauth_flows_user_pool_client = true
  allowed_oauth_scopes                 = [for scope in ["jobs:submit", "jobs:read"] : "${aws_cognito_resource_server.jobs.identifier}/${scope}"]

  depends_on = [aws_cognito_resource_server.jobs]
}

module "jobgate" {
  source = "../.."

  packages_dir = "${path.root}/../../../../dist"

  # The access token of Cognito has no aud: its client is checked instead.
  oidc_issuer     = "https://${aws_cognito_user_pool.jobs.endpoint}"
  oidc_client_ids = [aws_cognito_user_pool_client.machine.id]
  oidc_settings   = { OIDC_SCOPE_PREFIX = "jobgate/" }
}

output "url" {
  description = "Where the API is."
  value       = module.jobgate.url
}

output "token_url" {
  description = "Where the client gets its tokens."
  value       = "https://${aws_cognito_user_pool_domain.jobs.domain}.auth.${var.region}.amazoncognito.com/oauth2/token"
}
