//! What each role may do: data, deny by default.

use serde::{Deserialize, Serialize};

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($variant:ident = $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
        pub enum $type { $(#[serde(rename = $name)] $variant),* }

        impl $type {
            pub const ALL: &'static [$type] = &[$($type::$variant),*];

            pub const fn name(self) -> &'static str {
                match self { $($type::$variant => $name),* }
            }

            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }
        }
    };
}

names! {
    /// One thing a caller may do.
    Permission {
        MetricsRead = "metrics:read",
        PartnershipsRead = "partnerships:read",
        PartnershipsWrite = "partnerships:write",
        DecisionsRead = "decisions:read",
        DecisionsWrite = "decisions:write",
        PoliciesRead = "policies:read",
        PoliciesWrite = "policies:write",
        SystemRead = "system:read",
        ConfigRead = "config:read",
        ConfigWrite = "config:write",
        DocsRead = "docs:read",
        IngestWrite = "ingest:write",
        UsersRead = "users:read",
        UsersWrite = "users:write",
        KeysRead = "keys:read",
        KeysWrite = "keys:write",
        LimitsRead = "limits:read",
        LimitsWrite = "limits:write",
        IncidentsRead = "incidents:read",
        IncidentsWrite = "incidents:write",
        ChannelsRead = "channels:read",
        ChannelsWrite = "channels:write",
        BackupsRead = "backups:read",
        BackupsWrite = "backups:write",
    }
}

names! {
    /// A role of a user.
    Role {
        Admin = "admin",
        SystemAdmin = "system_admin",
        OrchestrationManager = "orchestration_manager",
        Viewer = "viewer",
        Ingest = "ingest",
        MetricsViewer = "metrics_viewer",
    }
}

use Permission::*;

/// The table: role x permission.
static GRANTS: &[(Role, &[Permission])] = &[
    (Role::Admin, Permission::ALL),
    (
        Role::SystemAdmin,
        &[
            MetricsRead,
            PartnershipsRead,
            PartnershipsWrite,
            DecisionsRead,
            PoliciesRead,
            SystemRead,
            DocsRead,
            IncidentsRead,
            IncidentsWrite,
            ChannelsRead,
            ChannelsWrite,
            BackupsRead,
        ],
    ),
    (
        Role::OrchestrationManager,
        &[
            MetricsRead,
            PartnershipsRead,
            PartnershipsWrite,
            DecisionsRead,
            DecisionsWrite,
            PoliciesRead,
            DocsRead,
            SystemRead,
            IncidentsRead,
            IncidentsWrite,
        ],
    ),
    (Role::Viewer, &[]),
    (Role::Ingest, &[IngestWrite]),
    (Role::MetricsViewer, &[MetricsRead]),
];

/// What an API key may be given. Not what changes who may do what: a key that
/// leaked must not be able to make itself a successor.
pub const FOR_API_KEYS: &[Permission] = &[
    MetricsRead,
    PartnershipsRead,
    PartnershipsWrite,
    DecisionsRead,
    DecisionsWrite,
    PoliciesRead,
    SystemRead,
    DocsRead,
    IngestWrite,
    IncidentsRead,
    IncidentsWrite,
];

impl Role {
    pub fn permissions(self) -> &'static [Permission] {
        GRANTS.iter().find(|(role, _)| *role == self).map_or(&[], |(_, granted)| *granted)
    }

    pub fn may(self, permission: Permission) -> bool {
        self.permissions().contains(&permission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_its_row() {
        for role in Role::ALL {
            assert_eq!(GRANTS.iter().filter(|(row, _)| row == role).count(), 1, "{role:?}");
        }
    }

    #[test]
    fn only_the_admin_reads_the_configuration_and_manages_who_may_do_what() {
        for role in Role::ALL {
            for permission in [
                ConfigRead,
                ConfigWrite,
                UsersRead,
                UsersWrite,
                KeysRead,
                KeysWrite,
                LimitsRead,
                LimitsWrite,
                BackupsWrite,
                PoliciesWrite,
            ] {
                assert_eq!(role.may(permission), *role == Role::Admin, "{role:?} {permission:?}");
                assert!(!FOR_API_KEYS.contains(&permission), "{permission:?}");
            }
        }
        for permission in [ChannelsRead, ChannelsWrite] {
            for role in Role::ALL {
                let may = matches!(role, Role::Admin | Role::SystemAdmin);
                assert_eq!(role.may(permission), may, "{role:?} {permission:?}");
            }
            assert!(!FOR_API_KEYS.contains(&permission), "{permission:?}");
        }
        assert!(Role::Viewer.permissions().is_empty());
    }
}
