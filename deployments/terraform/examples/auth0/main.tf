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

# Auth0: https://TENANT.eu.auth0.com/, with the closing slash. Okta: https://TENANT.okta.com/oauth2/SERVER, without; its
# client id is cid and its scopes are the list scp, which the defaults know.
variable "oidc_issuer" {
  description = "Issuer of the tokens, byte for byte as in their iss."
  type        = string
}

variable "api_identifier" {
  description = "Identifier of the API at Auth0, audience of the authorization server at Okta."
  type        = string
}

module "jobgate" {
  source = "../.."

  packages_dir  = "${path.root}/../../../../dist"
  oidc_issuer   = var.oidc_issuer
  oidc_audience = [var.api_identifier]
}

output "url" {
  description = "Where the API is."
  value       = module.jobgate.url
}
