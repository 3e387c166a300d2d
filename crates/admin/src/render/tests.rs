use super::*;
use crate::view::VolumeList;
use vdvs_api::v1;
#[test]
fn tmp_many() {
    let volumes = (0..10_000)
        .map(|n| v1::AdminVolume {
            volume: Some(v1::Volume {
                name: format!("volume-number-{n}"),
                datastore: "vsanDatastore".into(),
                group: "_DEFAULT".into(),
                state: "free".into(),
                capacity_bytes: 1 << 30,
                ..Default::default()
            }),
            ..Default::default()
        })
        .collect();
    let t = std::time::Instant::now();
    let list = VolumeList::from(v1::ListAllVolumesReply {
        volumes,
        unreadable_datastores: vec![],
    });
    eprintln!("view {:?}", t.elapsed());
    for w in [None, Some(80), Some(200)] {
        let t = std::time::Instant::now();
        let s = list.text(w);
        eprintln!("{w:?} {:?} {}", t.elapsed(), s.len());
    }
    let t = std::time::Instant::now();
    let s = volume_columns(&list, crate::view::ORIGINAL_COLUMNS, Some(80));
    eprintln!("wide {:?} {}", t.elapsed(), s.len());
}
