"""Generated messages and services of the contract `upscaled.v1`; see `proto/upscaled/v1/`. Do not edit."""
